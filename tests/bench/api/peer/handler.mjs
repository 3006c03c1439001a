// The create of a reservation as one writes it in Node: a handler of an HTTP API with Powertools' idempotency, the AWS SDK and
// grpc-js, for `cargo bench` to be held against. It asks the same services for the same things, and is happy when they are:
// what heals a crash between its steps is no part of it.
import { randomUUID } from "node:crypto";
import { IdempotencyConfig, makeIdempotent } from "@aws-lambda-powertools/idempotency";
import { DynamoDBPersistenceLayer } from "@aws-lambda-powertools/idempotency/dynamodb";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DynamoDBDocumentClient, PutCommand } from "@aws-sdk/lib-dynamodb";
import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const { IDEMPOTENCY_TABLE, INVENTORY_GRPC_ADDR, INVENTORY_TIMEOUT_MS, PROTO, RESERVATIONS_TABLE } = process.env;
const HOLD_SECONDS = 60;
const GRACE_SECONDS = 11_700;

const dynamodb = new DynamoDBClient({ maxAttempts: 2 });
const documents = DynamoDBDocumentClient.from(dynamodb);
const contract = loadPackageDefinition(
  loadSync("reservation/v1/inventory.proto", {
    includeDirs: [PROTO],
    keepCase: true,
    enums: String,
    defaults: true,
    longs: Number,
  }),
);
const inventory = new contract.reservation.v1.InventoryService(INVENTORY_GRPC_ADDR, credentials.createInsecure());

const persistenceStore = new DynamoDBPersistenceLayer({ tableName: IDEMPOTENCY_TABLE, awsSdkV3Client: dynamodb });
const config = new IdempotencyConfig({
  eventKeyJmesPath: "[userId, key]",
  payloadValidationJmesPath: "wish",
  expiresAfterSeconds: 86_400,
  throwOnNoIdempotencyKey: true,
});

function reserveSeat(request) {
  const deadline = Date.now() + Number(INVENTORY_TIMEOUT_MS);
  return new Promise((resolve, reject) => {
    inventory.reserveSeat(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

const create = makeIdempotent(
  async ({ userId, key, wish }) => {
    const id = `rsv_${randomUUID().replaceAll("-", "")}`;
    const now = Date.now();
    const { status, error } = await reserveSeat({
      reservation_id: id,
      event_id: wish.eventId,
      seat_ids: wish.seatIds ?? [],
      quantity: wish.quantity,
      user_id: userId,
      hold_expires_at: { seconds: Math.floor(now / 1_000) + GRACE_SECONDS },
      idempotency_key: `${id}#reserve`,
    });
    if (error !== null || status !== "HOLD_STATUS_ACTIVE") {
      throw new Error(`the inventory held nothing: ${status} ${error?.message ?? ""}`);
    }
    const expires = now + HOLD_SECONDS * 1_000;
    const item = {
      id,
      user_id: userId,
      event_id: wish.eventId,
      seat_ids: wish.seatIds ?? [],
      quantity: wish.quantity,
      status: "HOLD",
      created_at: now,
      updated_at: now,
      hold_expires_at: expires,
      key,
      version: 1,
    };
    await documents.send(
      new PutCommand({ TableName: RESERVATIONS_TABLE, Item: item, ConditionExpression: "attribute_not_exists(id)" }),
    );
    return { reservationId: id, status: "HOLD", holdExpiresAt: new Date(expires).toISOString(), message: "held" };
  },
  { persistenceStore, config },
);

function answer(statusCode, body, headers = {}) {
  return { statusCode, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) };
}

export async function handler(event, context) {
  const userId = event.requestContext.authorizer?.jwt?.claims?.sub;
  if (!userId) {
    return answer(401, { error: { code: "AUTHENTICATION_FAILED" } });
  }
  const key = event.headers["idempotency-key"];
  if (!key) {
    return answer(400, { error: { code: "MISSING_IDEMPOTENCY_KEY" } });
  }
  let wish;
  try {
    wish = JSON.parse(event.body);
  } catch {
    wish = {};
  }
  const { eventId, quantity } = wish;
  if (typeof eventId !== "string" || !Number.isInteger(quantity) || quantity < 1 || quantity > 10) {
    return answer(400, { error: { code: "INVALID_REQUEST" } });
  }
  config.registerLambdaContext(context);
  try {
    const created = await create({ userId, key, wish });
    console.log(JSON.stringify({ level: "info", msg: "created", reservation_id: created.reservationId }));
    return answer(201, created, { location: `/v1/reservations/${created.reservationId}` });
  } catch (error) {
    console.error(JSON.stringify({ level: "error", msg: "not created", error: String(error.cause ?? error) }));
    return answer(503, { error: { code: "SERVICE_UNAVAILABLE" } }, { "retry-after": "1" });
  }
}
