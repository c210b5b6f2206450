"""Printers of Loop IR and plans; one package per target language, none imports another."""
