//! Stories of teams: their data, their tools, their own commands, by command and by message.

mod blue_green;
mod desk;
mod etsy_shop;
mod health_records;
mod lessons;
mod recovery_plan;
mod team;
