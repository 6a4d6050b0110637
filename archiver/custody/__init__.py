"""Chain of custody: signed events, chained per subject, written in the transaction of the change that they record.

Owns the frozen event format (docs/spec/custody-event.md) and the tables that hold events. Promises: an event and its
change are kept together or not at all; no event is ever edited or removed; nothing personal is in an event in clear.
The reading side (`history`, `chain`) imports nothing of the writing side (`ledger`). Imports nothing of its sibling
capabilities.
"""
