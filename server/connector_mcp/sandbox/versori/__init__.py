"""The emulated Versori."""
