"""The four platforms, emulated over their real wire contract. Start at `app.Sandbox`."""
