"""Outputs of the service: MQTT with Home Assistant's discovery, webhooks, Prometheus metrics."""
