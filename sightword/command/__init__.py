"""The command `sightword`: in the whole distribution only, as it uses typer, rich and the other packages."""
