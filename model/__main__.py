"""`python -m model`: fetch, import, check, optimise and export models."""

from __future__ import annotations

from model.requirements import needs

with needs("cpu"):
    import typer

    from model.commands import convert, inspect, optimize, pull
    from model.environment import complaints

app = typer.Typer(
    no_args_is_help=True,
    help="Fetch, import, check, optimise and export models.\n\n"
    "A bundle is a folder with bundle.json, image.onnx, text.onnx, tokenizer.json and weights.safetensors: "
    "what training exports and the service serves.\n\n"
    "Examples:\n\n"
    "  python -m model inspect                                the checkpoint that ships with Sightword\n\n"
    "  python -m model pull ViT-B-32                          a published checkpoint by its name\n\n"
    "  python -m model verify runs/sample/bundle              every hash, then one run of each tower\n\n"
    "  python -m model import clip/ViT-B-32.pt --to vit-b-32  a published checkpoint becomes a bundle\n\n"
    "  python -m model export vit-b-32 --format huggingface --to hf   and back\n\n"
    "  python -m model optimize vit-b-32 --precision int8     two to three times as fast on a CPU",
)


@app.callback()
def main() -> None:
    """Say which variables nothing reads, before the command runs."""
    for complaint in complaints():
        typer.echo(complaint, err=True)


app.command()(pull.pull)
app.command()(pull.models)
app.command("import")(convert.import_)
app.command()(convert.export)
app.command()(optimize.optimize)
app.command()(inspect.inspect)
app.command()(inspect.verify)
app.command()(inspect.presets)
app.command()(inspect.version)

if __name__ == "__main__":
    app(prog_name="python -m model")
