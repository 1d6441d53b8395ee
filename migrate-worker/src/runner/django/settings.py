"""The project's own settings with another database: written by Holdfast for one run of manage.py."""

import importlib
import json
import os

_theirs = importlib.import_module(os.environ["HOLDFAST_DJANGO_SETTINGS"])
globals().update({name: value for name, value in vars(_theirs).items() if name.isupper()})


def _product(engine):
    """What an engine, perhaps one wrapped by a library, is an engine of."""
    if "sqlite" in engine or "spatialite" in engine:
        return "sqlite3"
    return "postgresql" if "postg" in engine else None


def _default(own, told):
    """The project's default database at the place that was told; without one, where nothing is."""
    engine = own.get("ENGINE", "")
    product = told["product"] if told else _product(engine)
    if product is None:
        return {"ENGINE": "django.db.backends.dummy"}
    if _product(engine) != product:
        own, engine = {}, "django.db.backends." + product
    place = dict.fromkeys(["NAME", "USER", "PASSWORD", "HOST", "PORT"], "")
    if told:
        place.update(told["place"])
    elif product == "sqlite3":
        place.update(NAME="/dev/null/no-database")
    else:
        place.update(NAME="no-database", HOST="/dev/null")
    options = dict(own.get("OPTIONS") or {})
    if product == "postgresql":
        for name in ["service", "passfile", "dbname", "user", "password", "host", "hostaddr", "port"]:
            options.pop(name, None)
        options.update(told["options"] if told else {})
        # libpq would read either these or PGOPTIONS, and the latter end the sessions of a killed tool.
        if options.get("options"):
            options["options"] = " ".join([options["options"], os.environ.get("PGOPTIONS", "")])
    return {**own, "ENGINE": engine, **place, "OPTIONS": options}


_databases = globals().get("DATABASES") or {}
_told = json.loads(os.environ.get("HOLDFAST_DJANGO_DATABASE", "null"))
# Other databases are not backed up with this one, so a migration must not reach them.
DATABASES = {alias: {"ENGINE": "django.db.backends.dummy"} for alias in _databases}
DATABASES["default"] = _default(dict(_databases.get("default") or {}), _told)

if os.environ.get("HOLDFAST_DJANGO_HISTORY"):
    INSTALLED_APPS = [*globals().get("INSTALLED_APPS", []), "holdfast_django"]
