"""What holds for all tests."""

from hypothesis import settings

# The machines that run them are shared: how long an example takes says nothing of the code.
settings.register_profile("twofold", deadline=None)
settings.load_profile("twofold")
