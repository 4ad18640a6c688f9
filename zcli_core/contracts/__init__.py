"""What a plugin may provide: one module per kind. Import from the module of your kind."""
