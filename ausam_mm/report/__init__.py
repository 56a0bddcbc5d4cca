"""What tools/report.py shows of trainings and studies; imported when used."""
