"""What a run gave, in figures: whoever ran the requests, in virtual time or live."""

from twofold_sim.measuring.goodput import Goodput, goodput, goodputs
from twofold_sim.measuring.measures import Figures, Measures, Slo, measure
from twofold_sim.measuring.quantiles import Quantiles, quantile
from twofold_sim.measuring.record import Record, notes_on
from twofold_sim.measuring.record_files import read_records, write_records
from twofold_sim.measuring.samples import Samples
from twofold_sim.measuring.served import Served
from twofold_sim.measuring.tables import goodput_table, quartile_table, table

__all__ = [
    "Figures",
    "Goodput",
    "Measures",
    "Quantiles",
    "Record",
    "Samples",
    "Served",
    "Slo",
    "goodput",
    "goodput_table",
    "goodputs",
    "measure",
    "notes_on",
    "quantile",
    "quartile_table",
    "read_records",
    "table",
    "write_records",
]
