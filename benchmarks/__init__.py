"""What measures this project: see README.md."""
