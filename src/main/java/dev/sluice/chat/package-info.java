/// Conversations with a model: [ChatFormat] makes of their messages the tokens that the model
/// continues, [AnswerReader] tells what it thinks from what it answers, [Chat] holds one
/// conversation turn by turn.
package dev.sluice.chat;
