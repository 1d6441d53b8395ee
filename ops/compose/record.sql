-- The record of tasks has a database of its own: never inside one that is backed up or migrated.
CREATE DATABASE holdfast;
