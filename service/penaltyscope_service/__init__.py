"""The service: takes events of many training jobs over OTLP, keeps every step, serves metrics."""
