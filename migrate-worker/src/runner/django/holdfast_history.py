"""Prints every migration of the project as JSON, each behind those it builds on. Reads no database."""

import json

from django.core.management.base import BaseCommand
from django.db.migrations.loader import MigrationLoader


class Command(BaseCommand):
    requires_system_checks = []

    def handle(self, **options):
        graph = MigrationLoader(None, ignore_no_migrations=True).graph
        order = {}
        for leaf in sorted(graph.leaf_nodes()):
            order.update(dict.fromkeys(graph.forwards_plan(leaf)))
        self.stdout.write("holdfast-history " + json.dumps([self.revision(graph, key) for key in order]))

    def revision(self, graph, key):
        migration = graph.nodes[key]
        return {
            "id": ".".join(key),
            "parents": sorted(".".join(parent.key) for parent in graph.node_map[key].parents),
            "message": "; ".join(operation.describe() for operation in migration.operations)[:200],
            "has_downgrade": all(operation.reversible for operation in migration.operations),
            "replaces": [".".join(replaced) for replaced in migration.replaces],
        }
