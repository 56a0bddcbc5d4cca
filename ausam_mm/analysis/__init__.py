"""What trainings look like from inside; imported when used."""
