"""What tests of durable programs need: databases today, whole environments on a virtual clock later."""
