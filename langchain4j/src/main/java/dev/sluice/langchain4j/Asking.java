package dev.sluice.langchain4j;

import dev.langchain4j.agent.tool.ToolExecutionRequest;
import dev.langchain4j.agent.tool.ToolSpecification;
import dev.langchain4j.data.message.AiMessage;
import dev.langchain4j.data.message.ChatMessage;
import dev.langchain4j.data.message.Content;
import dev.langchain4j.data.message.SystemMessage;
import dev.langchain4j.data.message.TextContent;
import dev.langchain4j.data.message.ToolExecutionResultMessage;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.exception.UnsupportedFeatureException;
import dev.langchain4j.internal.JsonSchemaElementJsonUtils;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ResponseFormatType;
import dev.langchain4j.model.chat.request.json.JsonSchemaElement;
import dev.sluice.InvalidInputException;
import dev.sluice.chat.Message;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Sampler;
import dev.sluice.schema.TokenMask;
import dev.sluice.serving.Manner;
import dev.sluice.serving.Question;
import dev.sluice.serving.TextModel;
import dev.sluice.serving.Tool;
import dev.sluice.serving.Writing;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// Requests of LangChain4j as questions to a [TextModel]. All that a request says is followed, or
/// refused by name.
final class Asking {
  private static final String FURTHER = "additionalProperties";

  private Asking() {}

  /// Begins to answer.
  ///
  /// @throws UnsupportedFeatureException if the request wants something that is not possible
  static Writing begin(TextModel model, ChatRequest request) {
    // also refuses parameters of other models, and gives those of any the form of ours
    var parameters = SluiceChatRequestParameters.NONE.overrideWith(request.parameters());
    String name = parameters.modelName();
    if (name != null && !name.equals(model.known().name())) {
      throw new UnsupportedFeatureException(
          "the model is %s, and another one, %s, is asked for; leave the name out"
              .formatted(model.known().name(), name));
    }
    var question = question(model, request, parameters);
    return model.begin(question, manner(model, parameters));
  }

  private static Question question(
      TextModel model, ChatRequest request, SluiceChatRequestParameters parameters) {
    var tools = list(parameters.toolSpecifications()).stream().map(Asking::tool).toList();
    boolean forced = false;
    boolean told = true;
    switch (parameters.toolChoice()) {
      case null -> {}
      case AUTO -> {}
      case NONE -> told = false;
      case REQUIRED -> forced = true;
    }
    if (forced && tools.isEmpty()) {
      throw new InvalidInputException("the tool choice is REQUIRED, and there are no tools");
    }
    return new Question(
        request.messages().stream().map(Asking::message).toList(),
        told ? tools : List.of(),
        forced ? tools : List.of(),
        json(model, parameters),
        new LinkedHashMap<>(parameters.templateVariables()));
  }

  private static <T> List<T> list(@Nullable List<T> given) {
    return given == null ? List.of() : given;
  }

  // ---------------------------------------------------------------- what is said

  private static Map<String, @Nullable Object> message(ChatMessage message) {
    return switch (message) {
      case SystemMessage system -> new Message(Message.Role.SYSTEM, system.text()).asMap();
      case UserMessage user -> {
        var map = new Message(Message.Role.USER, text(user.contents())).asMap();
        if (user.name() != null) {
          map.put("name", user.name());
        }
        yield map;
      }
      case AiMessage ai -> {
        if (!list(ai.images()).isEmpty()) {
          throw new UnsupportedFeatureException(
              "an answer with images is among the messages, and the model reads text alone");
        }
        var map =
            new Message(
                    Message.Role.ASSISTANT,
                    Objects.requireNonNullElse(ai.text(), ""),
                    Objects.requireNonNullElse(ai.thinking(), ""))
                .asMap();
        if (ai.hasToolExecutionRequests()) {
          map.put("tool_calls", ai.toolExecutionRequests().stream().map(Asking::call).toList());
        }
        yield map;
      }
      case ToolExecutionResultMessage result -> {
        Map<String, @Nullable Object> map = new LinkedHashMap<>();
        map.put("role", "tool");
        if (result.id() != null) {
          map.put("tool_call_id", result.id());
        }
        map.put("name", result.toolName());
        map.put("content", text(result.contents()));
        yield map;
      }
      default ->
          throw new UnsupportedFeatureException(
              "messages of the kind %s are not possible; the model reads system, user, AI and tool messages"
                  .formatted(message.getClass().getSimpleName()));
    };
  }

  private static Map<String, Object> call(ToolExecutionRequest request) {
    return Map.of(
        "id",
        Objects.requireNonNullElse(request.id(), ""),
        "type",
        "function",
        "function",
        Map.of(
            "name",
            request.name(),
            "arguments",
            Objects.requireNonNullElse(request.arguments(), "")));
  }

  private static String text(List<Content> contents) {
    return contents.stream()
        .map(
            content -> {
              if (content instanceof TextContent text) {
                return text.text();
              }
              throw new UnsupportedFeatureException(
                  "content of the type %s is not possible, since the model reads text alone"
                      .formatted(content.type()));
            })
        .collect(Collectors.joining("\n"));
  }

  // ---------------------------------------------------------------- what may be answered

  private static Tool tool(ToolSpecification specification) {
    if (Boolean.TRUE.equals(specification.strict())) {
      throw new UnsupportedFeatureException(
          "the tool %s is strict, which is not possible; leave it out, and check the arguments"
              .formatted(specification.name()));
    }
    return Tool.function(
        specification.name(),
        Objects.requireNonNullElse(specification.description(), ""),
        specification.parameters() == null
            ? JsonNodeFactory.instance.objectNode().put("type", "object")
            : tree(specification.parameters()));
  }

  private static JsonNode tree(JsonSchemaElement element) {
    JsonNode tree = JsonMapper.shared().valueToTree(JsonSchemaElementJsonUtils.toMap(element));
    close(tree);
    return tree;
  }

  /// An object that has properties has no others, where its schema does not say: what is made of a
  /// class says nothing, and could take up no others.
  private static void close(JsonNode schema) {
    if (schema instanceof ObjectNode object
        && object.path("type").asString("").equals("object")
        && !object.path("properties").isEmpty()
        && !object.has(FURTHER)) {
      object.put(FURTHER, false);
    }
    schema.forEach(Asking::close);
  }

  private static @Nullable TokenMask json(TextModel model, SluiceChatRequestParameters parameters) {
    var format = parameters.responseFormat();
    if (format == null || format.type() == ResponseFormatType.TEXT) {
      return null;
    }
    return format.jsonSchema() == null
        ? model.known().anyObjectMask()
        : model.known().mask("the response format", tree(format.jsonSchema().rootElement()));
  }

  // ---------------------------------------------------------------- how

  private static Manner manner(TextModel model, SluiceChatRequestParameters parameters) {
    var usual = model.manner();
    var sampler = usual.sampler();
    var adjustments = usual.adjustments();
    return new Manner(
        new Sampler(
            or(parameters.temperature(), sampler.temperature()),
            or(parameters.topK(), sampler.topK()),
            or(parameters.topP(), sampler.topP()),
            or(parameters.minP(), sampler.minP()),
            or(parameters.seed(), sampler.seed())),
        new LogitAdjustments(
            or(parameters.repetitionPenalty(), adjustments.repetition()),
            or(parameters.presencePenalty(), adjustments.presence()),
            or(parameters.frequencyPenalty(), adjustments.frequency()),
            adjustments.bias()),
        or(parameters.maxOutputTokens(), usual.mostTokens()),
        list(parameters.stopSequences()));
  }

  private static <T> T or(@Nullable T given, T usual) {
    return given == null ? usual : given;
  }
}
