"""Who must be told of what, and the telling: rules and routes (pure), what was told (SQL), channels, and the dead-man's ping."""
