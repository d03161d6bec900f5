"""What a model costs on the machine at hand, by phase."""
