"""The four platforms emulated over their real wire contract: start at `app.Sandbox`."""
