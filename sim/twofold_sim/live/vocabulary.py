"""The words that an engine without a model says. Each is one token, with the space before it."""

_LINES = (
    "a all and any are as at away be best big bird blue boat both bread but by calm came can",
    "city clear cloud cold come cool day deep do door down dream drift early earth east end",
    "even every fall far field find fire first fish five flow fog for four from full gave",
    "glass go gold good grass gray green grow had half hand has hear heart help here high",
    "hill home hope hour house how if in into is it just keep kind lake land last late leaf",
    "less light like line long look low made make many may mill mine mist moon more moss most",
    "near new next night no north not now oak of off old on one open or other our out over",
    "own pale park path plain pond quiet rain read red rest rise river road rock room root",
    "run salt same sand saw sea see seed seven shade ship shore side sing sky slow small snow",
    "so soft some song soon south sow star stay still stone such sun take tall than that the",
    "then there these they thin this three tide time to town tree true turn two under up upon",
    "very wait walk warm was wave way we well went west what when white wide wild wind wing",
    "with wood word work year yet you young day. sea. hill. home. road. rain. moon. sky.",
    "tree. wind. town. now. end. here. lake. snow.",
)

WORDS = tuple(word for line in _LINES for word in line.split())
