package dev.sluice.template;

import dev.sluice.InvalidInputException;
import dev.sluice.template.Values.Dict;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// A chat template that was read. It can be rendered from several threads at once.
///
/// The language is the part of Jinja that chat templates use, with the settings of `transformers`
/// (`trim_blocks`, `lstrip_blocks`, loop controls, its own `tojson`, an immutable sandbox); a
/// template of that part gives the same text to the byte.
public final class ChatTemplate {
  /// What marks the end of the message that is continued.
  private static final String MARK = "CONTINUE_FINAL_MESSAGE_TAG ";

  /// Roles that a template writes into its control text, as in `'<|im_start|>' + message.role`.
  /// None of them can be taken for a control token of its own.
  private static final Set<String> ROLES =
      Set.of(
          "assistant",
          "developer",
          "environment",
          "function",
          "ipython",
          "model",
          "observation",
          "system",
          "tool",
          "user");

  /// Values within one another, in messages.
  private static final int DEEPEST = 250;

  private final Source source;
  private final Statement.Body body;

  private ChatTemplate(Source source) {
    this.source = source;
    body = Parser.parse(source);
  }

  /// A template; what is wrong in it or outside the supported part is named with its line and
  /// column.
  ///
  /// @throws InvalidInputException one sentence
  public static ChatTemplate parse(String source) {
    return parse("The chat template", source);
  }

  /// @param name which messages begin with
  public static ChatTemplate parse(String name, String source) {
    return new ChatTemplate(Source.of(name, source));
  }

  /// The text that the model continues.
  ///
  /// @param tokens special tokens by the names that templates have for them, such as `bos_token`;
  ///   they count as the template's
  /// @param now what the template takes for the time
  /// @throws InvalidInputException if the template refuses the conversation, cannot be rendered
  ///   with it or does not end: one sentence
  public Rendering render(
      Conversation conversation, Map<String, String> tokens, LocalDateTime now) {
    var work = new Work();
    try {
      var variables = new HashMap<String, Object>();
      tokens.forEach((name, token) -> variables.put(name, Text.template(token)));
      conversation.variables().forEach((name, value) -> variables.put(name, value(value, 0)));
      variables.putIfAbsent("documents", None.NONE);
      Object tools = value(conversation.tools(), 0);
      variables.put("tools", tools);
      variables.put(
          "add_generation_prompt", conversation.ending() == Conversation.Ending.GENERATION_PROMPT);
      var messages = new ArrayList<Object>();
      for (Map<String, ?> message : conversation.messages()) {
        messages.add(message(message));
      }
      boolean continued = conversation.ending() == Conversation.Ending.CONTINUED_MESSAGE;
      Text last = continued ? mark((Dict) messages.getLast(), work) : Text.EMPTY;
      variables.put("messages", messages);
      Text text = new Interpreter(source, work, now).render(body, variables);
      return Rendering.of(continued ? upToMark(text, last) : text);
    } catch (TemplateFailure e) {
      throw new InvalidInputException(source.name() + ": " + e.getMessage(), e);
    }
  }

  /// What a template is given for a value; strings are the conversation's.
  private static Object value(@Nullable Object value, int depth) {
    if (depth > DEEPEST) {
      throw TemplateFailure.of("the conversation is nested deeper than %d levels", DEEPEST);
    }
    return switch (value) {
      case null -> None.NONE;
      case Boolean truth -> truth;
      case String string -> Text.conversation(string);
      case Byte number -> Numbers.whole(number);
      case Short number -> Numbers.whole(number);
      case Integer number -> Numbers.whole(number);
      case Long number -> Numbers.whole(number);
      case BigInteger number -> number;
      case Float number -> Double.valueOf(number.toString());
      case Double number -> number;
      case BigDecimal number -> number.doubleValue();
      case List<?> list -> {
        var items = new ArrayList<Object>(list.size());
        for (Object item : Values.<@Nullable Object>plain(list)) {
          items.add(value(item, depth + 1));
        }
        yield items;
      }
      case Map<?, ?> map -> {
        var dict = new Dict();
        map.forEach((key, item) -> dict.put(value(key, depth + 1), value(item, depth + 1)));
        yield dict;
      }
      default ->
          throw new IllegalArgumentException(
              "a template is given no %s; convert it to maps, lists, strings, numbers and booleans"
                  .formatted(value.getClass().getName()));
    };
  }

  private static Dict message(Map<String, ?> message) {
    var dict = (Dict) value(message, 0);
    if (message.get("role") instanceof String role && ROLES.contains(role)) {
      dict.put(Text.conversation("role"), Text.template(role));
    }
    return dict;
  }

  /// Puts the mark behind the last message's text.
  ///
  /// @return that text
  private Text mark(Dict message, Work work) {
    if (!source.text().contains("content")) {
      throw new TemplateFailure(
          "it writes no 'content' of a message, so that none can be continued");
    }
    Object content = message.get("content");
    Dict holder = message;
    String name = "content";
    if (content instanceof List<?> parts) {
      for (Object part : parts.reversed()) {
        if (part instanceof Dict dict && dict.get("text") != null) {
          holder = dict;
          name = "text";
          break;
        }
      }
    }
    if (!(holder.get(name) instanceof Text text)) {
      throw new TemplateFailure(
          "the last message has no text to continue; let it end with what the answer begins with");
    }
    var marked = new Text.Builder(work);
    marked.append(text);
    marked.append(MARK, true);
    holder.put(Text.conversation(name), marked.text());
    return text;
  }

  /// As `transformers` cuts it: where the template has taken the blank off the mark, it took those
  /// at the end of the message too.
  private static Text upToMark(Text text, Text last) {
    String string = text.string();
    int at = string.lastIndexOf(MARK.strip());
    if (at < 0 || !string.contains(Python.strip(last.string()))) {
      throw new TemplateFailure(
          "it does not write the last message as it is, so that it cannot be continued; ask for a"
              + " new answer");
    }
    int end = at;
    if (!string.startsWith(MARK, at)) {
      while (end > 0 && Text.isSpace(string.charAt(end - 1))) {
        end--;
      }
    }
    return text.cut(0, end);
  }
}
