"""What an operator looks at: metrics and logs."""
