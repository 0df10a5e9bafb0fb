"""What makes events: one module for each kind of trigger."""
