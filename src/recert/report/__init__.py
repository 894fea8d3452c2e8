"""Tables and data for pictures, made from certificates and cases."""
