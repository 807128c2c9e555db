/// Chat templates: from the messages of a conversation to the text that a model continues, as
/// `transformers` makes it. A template is a file of others: it reads nothing, and ends in bounded
/// time and memory or with one sentence.
///
/// Start at [ChatTemplates], which finds a model's template, or [ChatTemplate], which is one.
package dev.sluice.template;
