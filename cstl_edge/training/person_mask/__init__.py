"""Small person networks: BlazePose lite cut down, and a student of BlazePose heavy."""
