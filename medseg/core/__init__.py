"""What things are: geometry, volumes, label maps, measurements, findings, errors. Depends on numpy alone."""
