package dev.sluice.serving;

import dev.sluice.generation.JsonRestriction;
import dev.sluice.generation.Restriction;
import dev.sluice.generation.TextStream;
import dev.sluice.schema.TokenMask;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.OptionalInt;
import java.util.Set;
import java.util.function.Supplier;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// Lets an answer be nothing but one call of a tool: the tokens that begin it, then what another
/// restriction allows until it says that the call is whole, the tokens that end it, and an end.
final class ForcedCall implements Restriction {
  /// What a call is between its ends.
  interface Body extends Restriction {
    /// Whether nothing can follow.
    boolean isComplete();
  }

  private static final String REFERENCE = "$ref";

  /// Keywords beside which `type` may not stand.
  private static final List<String> CHOICES = List.of(REFERENCE, "anyOf", "oneOf", "allOf");

  /// Keywords whose members are schemas by name, whatever the name is.
  private static final Set<String> NAMED = Set.of("properties", "$defs", "definitions");

  /// Keywords that hold values and no schemas.
  private static final Set<String> VALUES = Set.of("const", "enum", "default", "examples");

  private final int[] begin;
  private final Body body;
  private final int[] end;
  private final Set<Integer> ends;
  private int begun;
  private int ended;

  /// Lets answers be a call of one of some tools, a new restriction each time. In the form with
  /// tags the arguments are the model's to write, and only the name and the end are not.
  static Supplier<Restriction> of(List<Tool> tools, ServedModel model) {
    var tokenizer = model.tokenizer();
    if (model.callsHaveTags()) {
      int[] begin = tokenizer.encode(Tags.BEGIN);
      byte[][] bytes = model.bytes();
      return () ->
          new ForcedCall(begin, new Tags(tools, model, bytes), new int[0], model.turnEnds());
    }
    var mask = model.mask("tools", schema(tools));
    int[] begin = tokenizer.encode(ToolCallReader.BEGIN + "\n");
    int[] end = tokenizer.encode("\n" + ToolCallReader.END);
    return () -> new ForcedCall(begin, new Arguments(mask), end, model.turnEnds());
  }

  /// @param ends tokens that end an answer
  private ForcedCall(int[] begin, Body body, int[] end, Set<Integer> ends) {
    this.begin = begin;
    this.body = body;
    this.end = end;
    this.ends = ends;
  }

  @Override
  public void restrict(float[] logits) {
    if (begun < begin.length) {
      leave(logits, Set.of(begin[begun]));
    } else if (!body.isComplete()) {
      body.restrict(logits);
    } else {
      leave(logits, ended < end.length ? Set.of(end[ended]) : ends);
    }
  }

  @Override
  public void chosen(int token) {
    if (begun < begin.length) {
      begun++;
    } else if (!body.isComplete()) {
      body.chosen(token);
    } else {
      ended++;
    }
  }

  /// A token is chosen by itself, however unlikely it was.
  private static void leave(float[] logits, Set<Integer> tokens) {
    float[] left = new float[logits.length];
    Arrays.fill(left, Float.NEGATIVE_INFINITY);
    tokens.forEach(token -> left[token] = Float.isFinite(logits[token]) ? logits[token] : 0);
    System.arraycopy(left, 0, logits, 0, logits.length);
  }

  /// `{"name": NAME, "arguments": {…}}` of one of the tools.
  static JsonNode schema(List<Tool> tools) {
    var factory = JsonNodeFactory.instance;
    ObjectNode schema = factory.objectNode();
    var alternatives = schema.putArray("anyOf");
    for (int i = 0; i < tools.size(); i++) {
      var tool = tools.get(i);
      ObjectNode call = alternatives.addObject();
      call.put("type", "object");
      ObjectNode properties = call.putObject("properties");
      properties.putObject("name").put("const", tool.name());
      ObjectNode arguments = properties.putObject("arguments");
      if (tool.parameters() instanceof ObjectNode parameters) {
        arguments.setAll(parameters.deepCopy());
        refer(arguments, "#/anyOf/" + i + "/properties/arguments");
      }
      if (CHOICES.stream().noneMatch(arguments::has)) {
        arguments.put("type", "object"); // else what is chosen says it
      }
      call.putArray("required").add("name").add("arguments");
      call.put("additionalProperties", false);
    }
    return schema;
  }

  /// References begin at the root of a document, and this schema was one of its own: its references
  /// begin where it stands now.
  private static void refer(JsonNode schema, String place) {
    if (schema instanceof ObjectNode object) {
      String reference = object.path(REFERENCE).asString("");
      if (reference.startsWith("#")) {
        object.put(REFERENCE, place + reference.substring(1));
      }
      for (var member : object.properties()) {
        if (NAMED.contains(member.getKey())) {
          member.getValue().forEach(each -> refer(each, place));
        } else if (!VALUES.contains(member.getKey())) {
          refer(member.getValue(), place);
        }
      }
    } else {
      schema.forEach(each -> refer(each, place));
    }
  }

  /// A JSON value as the body of a call.
  private static final class Arguments implements ForcedCall.Body {
    private final JsonRestriction json;

    Arguments(TokenMask mask) {
      this.json = new JsonRestriction(mask, OptionalInt.empty());
    }

    @Override
    public void restrict(float[] logits) {
      json.restrict(logits);
    }

    @Override
    public void chosen(int token) {
      json.chosen(token);
    }

    @Override
    public boolean isComplete() {
      return json.isComplete();
    }
  }

  /// The rest of a call with tags as the body of one: the name of a tool, then what the model
  /// wants, but for an end of the answer, until the call has ended.
  private static final class Tags implements ForcedCall.Body {
    static final String BEGIN = ToolCallReader.BEGIN + "\n" + ToolCallReader.FUNCTION;

    private final Set<Integer> ends;
    private final byte[][] bytes; // of each token
    private final TextStream stream;
    private final ToolCallReader reader;
    private List<byte[]> names; // that it may have, each with what ends it
    private int named; // bytes of it
    private boolean ended;

    Tags(List<Tool> tools, ServedModel model, byte[][] bytes) {
      this.ends = model.turnEnds();
      this.bytes = bytes;
      this.stream = new TextStream(model.tokenizer()::decode);
      this.names =
          tools.stream()
              .map(tool -> (tool.name() + ">\n").getBytes(StandardCharsets.UTF_8))
              .toList();
      this.reader =
          new ToolCallReader(
              tools,
              new ToolCallReader.Listener() {
                @Override
                public void onText(String piece) {
                  ended = true; // as no call
                }

                @Override
                public void onCall(String name, String arguments) {
                  ended = true;
                }
              });
      reader.add(BEGIN);
    }

    @Override
    public void restrict(float[] logits) {
      if (isNamed()) {
        ends.forEach(end -> logits[end] = Float.NEGATIVE_INFINITY);
        return;
      }
      var may = new HashSet<Integer>();
      boolean isAnyLikely = false;
      for (int token = 0; token < Math.min(bytes.length, logits.length); token++) {
        byte[] own = bytes[token];
        if (own.length > 0 && names.stream().anyMatch(name -> goesOn(name, own))) {
          may.add(token);
          isAnyLikely |= Float.isFinite(logits[token]);
        }
      }
      if (isAnyLikely) {
        may.removeIf(token -> !Float.isFinite(logits[token]));
      }
      leave(logits, may);
    }

    private boolean isNamed() {
      return named == names.getFirst().length;
    }

    private boolean goesOn(byte[] name, byte[] with) {
      int to = named + with.length;
      return to <= name.length && Arrays.equals(name, named, to, with, 0, with.length);
    }

    @Override
    public void chosen(int token) {
      if (!isNamed()) {
        byte[] own = bytes[token];
        names = names.stream().filter(name -> goesOn(name, own)).toList();
        named += own.length;
      }
      reader.add(stream.add(token));
    }

    @Override
    public boolean isComplete() {
      return ended;
    }
  }
}
