"""What the operating system makes necessary."""
