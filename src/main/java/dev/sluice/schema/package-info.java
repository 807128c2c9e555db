/// JSON as a schema wants it, one token at a time: [JsonSchema] is what was understood of a JSON
/// Schema, [JsonState] a pushdown automaton over the bytes of its values, [TokenMask] the tokens of
/// a [Vocabulary] that may come next. Nothing here knows models or texts.
///
/// From every state that can be reached some value can still be completed, and a vocabulary has
/// every byte as a token; so a token is always allowed, and what ends at an end token is valid.
package dev.sluice.schema;
