"""The sources of events: one module for each kind of trigger."""
