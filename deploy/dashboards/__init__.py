"""Dashboards and alerts as data, and what is written of them: ``python -m deploy.dashboards``."""
