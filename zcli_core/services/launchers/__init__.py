"""What starts and stops services: one module per launcher."""
