//! Stories of teams: their data, their tools, their own commands, by command and by message.

mod desk;
mod etsy_shop;
mod recovery_plan;
mod team;
