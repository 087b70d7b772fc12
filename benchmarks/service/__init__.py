"""Performance claims of the service, measured."""
