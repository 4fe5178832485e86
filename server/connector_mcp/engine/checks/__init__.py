"""What is checked before a call is sent, and in what comes back."""
