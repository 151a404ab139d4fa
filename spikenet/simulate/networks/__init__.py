"""The field's reference networks, each after its paper."""
