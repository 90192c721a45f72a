"""An engine without a model, live or in virtual time. Not built yet."""
