"""The kinds of triggers that the processor serves."""

from typing import Callable, Dict, List

from ..config import ProcessorConfig, TriggerConfig
from .base import Trigger, TriggerContext
from .batch import create_http_trigger
from .cron import CronTrigger

# In the order in which the triggers' workers are numbered.
TRIGGER_KINDS: Dict[str, Callable[[TriggerContext], Trigger]] = {
    "http": create_http_trigger,
    "cron": CronTrigger,
}


def served_triggers(config: ProcessorConfig) -> List[TriggerConfig]:
    """Return the triggers of these kinds; without any, Nuclio's default trigger."""
    triggers = config.triggers.values()
    served = [trigger for kind in TRIGGER_KINDS for trigger in triggers if trigger.kind == kind]
    return served or [TriggerConfig("default-http", {})]
