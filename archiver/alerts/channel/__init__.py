"""Ways to reach people: webhook, mail, and whatever Apprise knows."""
