//! Messages between the broker's types and ours.

use crate::queue::{Message, Outgoing};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// How deep headers are read.
pub const MAX_DEPTH: usize = 16;

/// Header that says why a message can never be taken.
pub(super) const REASON: &str = "x-holdfast-reason";
/// Header that says when that was found out.
pub(super) const AT: &str = "x-holdfast-at";
/// Header that says where the message was sent first.
pub(super) const ROUTING_KEY: &str = "x-holdfast-routing-key";

/// A message that came in.
pub(super) fn message(delivery: &Delivery) -> Message {
    let properties = &delivery.properties;
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    Message {
        body: delivery.data.clone(),
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        headers: headers(properties),
        reply_to: text(properties.reply_to()),
        correlation_id: text(properties.correlation_id()),
        routing_key: delivery.routing_key.to_string(),
    }
}

/// The headers as JSON.
pub(super) fn headers(properties: &BasicProperties) -> BTreeMap<String, Value> {
    let table = properties.headers().clone().unwrap_or_default();
    table.inner().iter().filter_map(|(name, value)| Some((name.to_string(), json(value, MAX_DEPTH)?))).collect()
}

fn json(value: &AMQPValue, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    Some(match value {
        AMQPValue::Boolean(value) => Value::Bool(*value),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Timestamp(value) => (*value).into(),
        AMQPValue::Float(value) => Number::from_f64(f64::from(*value)).map_or(Value::Null, Value::Number),
        AMQPValue::Double(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        AMQPValue::DecimalValue(value) => Value::String(format!("{}e-{}", value.value, value.scale)),
        AMQPValue::ShortString(value) => Value::String(value.to_string()),
        AMQPValue::LongString(value) => Value::String(String::from_utf8_lossy(value.as_bytes()).into_owned()),
        AMQPValue::ByteArray(value) => Value::String(String::from_utf8_lossy(value.as_slice()).into_owned()),
        AMQPValue::FieldArray(list) => {
            Value::Array(list.as_slice().iter().map(|value| json(value, depth)).collect::<Option<_>>()?)
        }
        AMQPValue::FieldTable(table) => {
            let entries = table.inner().iter().map(|(name, value)| Some((name.to_string(), json(value, depth)?)));
            Value::Object(entries.collect::<Option<Map<_, _>>>()?)
        }
        AMQPValue::Void => Value::Null,
    })
}

/// The properties of a message that is sent; it outlives the broker's end.
pub(super) fn properties(message: &Outgoing) -> BasicProperties {
    let mut properties =
        BasicProperties::default().with_delivery_mode(2).with_content_type(short(&message.content_type));
    if let Some(id) = &message.message_id {
        properties = properties.with_message_id(short(id));
    }
    if let Some(id) = &message.correlation_id {
        properties = properties.with_correlation_id(short(id));
    }
    if let Some(priority) = message.priority {
        properties = properties.with_priority(priority.min(9));
    }
    if message.headers.is_empty() {
        return properties;
    }
    let mut table = FieldTable::default();
    for (name, value) in &message.headers {
        table.insert(short(name), amqp(value));
    }
    properties.with_headers(table)
}

fn amqp(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => AMQPValue::LongLongInt(whole),
            None => AMQPValue::Double(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        other => AMQPValue::LongString(other.to_string().into()),
    }
}

/// The same message with why it was buried; far too large headers of its own are left behind.
pub(super) fn buried(delivery: &Delivery, reason: &str, at: &str) -> BasicProperties {
    const MOST_BYTES: usize = 64 * 1024;
    let own = headers(&delivery.properties);
    let is_large = own.iter().map(|(name, value)| name.len() + value.to_string().len()).sum::<usize>() > MOST_BYTES;
    let mut table = if is_large { FieldTable::default() } else { own_headers(delivery) };
    table.insert(REASON.into(), AMQPValue::LongString(reason.into()));
    table.insert(AT.into(), AMQPValue::LongString(at.into()));
    table.insert(ROUTING_KEY.into(), AMQPValue::LongString(delivery.routing_key.as_str().into()));
    delivery.properties.clone().with_delivery_mode(2).with_headers(table)
}

fn own_headers(delivery: &Delivery) -> FieldTable {
    delivery.properties.headers().clone().unwrap_or_default()
}

/// The message as it was before it was buried.
pub(super) fn unburied(delivery: &Delivery) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in own_headers(delivery).inner() {
        let of_the_burial = name.as_str().starts_with("x-holdfast-") || name.as_str() == "x-death";
        if !of_the_burial {
            table.insert(name.clone(), value.clone());
        }
    }
    delivery.properties.clone().with_headers(table)
}

/// A text of at most 255 bytes, cut at a character where it is longer.
pub(super) fn short(text: &str) -> ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}
