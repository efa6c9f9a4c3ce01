"""What the tests need to run Lifeguard between real clients and a real PostgreSQL."""
