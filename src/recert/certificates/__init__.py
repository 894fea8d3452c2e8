"""Certificates as frozen values, their JSON and its schema."""
