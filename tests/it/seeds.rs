//! Stories of teams: their data, their tools, their own commands, by command and by message.

mod blue_green;
mod desk;
mod health_records;
mod lessons;
