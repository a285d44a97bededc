"""What people see of a run: the receipt and the mail."""
