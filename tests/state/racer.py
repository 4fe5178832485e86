"""Opens a database. As a process, makes every record in it that another process has not made."""

import json
import sys
from pathlib import Path

from connector_mcp.state.database import Database, Transaction
from connector_mcp.state.postgres import PostgresDatabase
from connector_mcp.state.sqlite import SqliteDatabase

INSERT_ONCE = "INSERT INTO keys (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING RETURNING name"
RECORDS = [f"record {number}" for number in range(50)]


def opened(address: str) -> Database:
    return PostgresDatabase(address) if address.startswith("postgresql:") else SqliteDatabase(Path(address))


def main(address: str) -> None:
    database = opened(address)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    won: list[str] = []
    for name in RECORDS:

        def work(tx: Transaction, name: str = name) -> bool:
            return tx.execute(INSERT_ONCE, {"name": name, "value": ""}).first() is not None

        if database.write_now(work):
            won.append(name)
    database.close()
    sys.stdout.write(json.dumps(won))


if __name__ == "__main__":
    main(sys.argv[1])
