"""The emulated Logto."""
