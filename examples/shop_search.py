"""Find products of a shop by words or a picture, with filters, in LanceDB: pip install lancedb

    python examples/shop_search.py index examples/posters.csv
    python examples/shop_search.py search "coffee" --max-price 20 --in-stock

The catalogue has the columns sku, title, category, price, in_stock (yes or no) and picture, a path from where the
catalogue is. The vectors are from the service at SIGHTWORD_URL; without it, from a model in this process.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import Any

import lancedb

import sightword


def index(database: Any, name: str, model: Any, catalogue: Path) -> None:
    """Put the products of a catalogue in place of those that were there."""
    with catalogue.open(encoding="utf-8", newline="") as file:
        products = list(csv.DictReader(file))
    result = model.embed([catalogue.parent / each["picture"] for each in products], on_error="item", progress=True)
    for place, error in result.errors.items():
        print(f"left out {products[place]['sku']}: {error.message}", file=sys.stderr)
    rows = [
        product | {"price": float(product["price"]), "in_stock": product["in_stock"] == "yes", "vector": vector}
        for place, (product, vector) in enumerate(zip(products, result.vectors, strict=True))
        if place not in result.errors
    ]
    database.create_table(name, rows, mode="overwrite")
    print(f"{len(rows)} products")


def search(table: Any, model: Any, arguments: argparse.Namespace) -> None:
    """Print the products that are most like the query, of those that the filters leave."""
    conditions = [f"price <= {arguments.max_price}", "in_stock" if arguments.in_stock else "true"]
    if arguments.category:
        conditions.append("category = '{}'".format(arguments.category.replace("'", "''")))
    query = Path(arguments.query) if Path(arguments.query).is_file() else arguments.query
    found = table.search(model.embed(query)[0]).distance_type("cosine").where(" AND ".join(conditions), prefilter=True)
    for row in found.limit(5).to_list():
        print(f"{1 - row['_distance']:.3f}  {row['sku']}  {row['price']:.2f}  {row['title']}")


def main() -> None:
    """Read the command line, and index or search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="shop.lance", help="where the vectors are kept")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("index", help="embed a catalogue").add_argument("catalogue", type=Path)
    command = commands.add_parser("search", help="find products, by words or the path of a picture")
    command.add_argument("query")
    command.add_argument("--category")
    command.add_argument("--max-price", type=float, default=1e9)
    command.add_argument("--in-stock", action="store_true")
    arguments = parser.parse_args()

    model = sightword.Client() if os.environ.get("SIGHTWORD_URL") else sightword.load()
    database = lancedb.connect(arguments.database)
    name = f"products-{model.info().model().digest[:12]}"  # vectors of two models cannot be compared
    if arguments.command == "index":
        index(database, name, model, arguments.catalogue)
    elif name in database.list_tables().tables:
        search(database.open_table(name), model, arguments)
    else:
        sys.exit("error: with this model, no catalogue is indexed")


if __name__ == "__main__":
    try:
        main()
    except sightword.SightwordError as error:
        sys.exit(f"error: {error}")
