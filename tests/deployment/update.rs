//! A stack that was deployed from an old template is updated by today's, and then settlement is switched off in it.

use std::{collections::BTreeMap, fs};

use local_stack::{catalogue::QUEUED, inventory::Inventory, ministack::MiniStack, port, reservations::Reservations};
use serde_json::{Value, json};

use crate::{STACK, check_end, in_queue, only_tables_are_left, put_on_the_bus, sam, traffic, until};

/// What was deployed before systems had switches.
const OLD: &str = include_str!("template-125717d.yaml");

/// The function whose message waits through the update.
const FUNCTION: &str = "reservation-expired";

/// The resources of a stack by logical id, each with its type and its physical id.
pub(crate) type Resources = BTreeMap<String, (String, String)>;

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_an_old_stack_costs_it_nothing_and_without_settlement_only_what_is_shared_is_left() {
    let Some(built) = sam::built() else { return };
    let account = sam::account("update").await;
    let ((later_api, api), (later_inventory, inventory_address)) =
        (port::of_nobody().unwrap(), port::of_nobody().unwrap());
    let inventory_address = inventory_address.to_string();
    let base = format!("http://{api}");
    let inventory_parameter = [("InventoryGrpcAddr", inventory_address.as_str())];
    let addresses = [&sam::foreign_api(&base)[..], &inventory_parameter].concat();
    // Who deployed it knows no switch, and updates it without a word about one.
    let mut parameters = sam::parameters(&addresses);
    for switch in ["Settlement", "Reservations", "Bookings", "WaitingRoom"] {
        assert!(parameters.remove(switch).is_some(), "the stage says {switch}");
    }
    let old = built.join("template-125717d.yaml");
    fs::write(&old, with_built_functions(OLD)).expect("the target directory is writable");
    sam::deploy_template(&account.url, STACK, &old, &parameters);

    let before = resources(&account).await;
    work_the_queue(&account, false).await;
    let case = &traffic::events()[0];
    put_on_the_bus(&account, STACK, &case.entries).await;
    until("the message lies in its queue", async || in_queue(&account, FUNCTION).await == 1).await;
    sam::deploy_template(&account.url, STACK, &built.join("template.yaml"), &parameters);

    let after = resources(&account).await;
    assert_eq!(lost(&before, &after), Vec::<String>::new(), "the update keeps each resource that was there");
    assert!(after.len() > before.len(), "the update brings what is new");
    assert_eq!(in_queue(&account, FUNCTION).await, 1, "the message still lies in its queue");
    // Nobody listened there before, so it was not settled by the old version.
    let (reservations, inventory) = (Reservations::default(), Inventory::default());
    traffic::seed(case, &reservations, &inventory);
    tokio::spawn(reservations.clone().serve(later_api.listen(128).unwrap()));
    tokio::spawn(inventory.clone().serve(later_inventory.listen(128).unwrap()));
    work_the_queue(&account, true).await;
    until("the message is worked", async || in_queue(&account, FUNCTION).await == 0).await;
    check_end(case, &reservations, &inventory, &[]);

    sam::deploy(&account.url, STACK, &[&addresses[..], &[("Settlement", "false")]].concat());
    let mut shared = after;
    shared.retain(|id, _| ["EventBus", "IdempotencyTable"].contains(&id.as_str()));
    assert_eq!(resources(&account).await, shared, "what is shared stays, and is the same");
    only_tables_are_left(&account, 1, &["buses"]).await;
}

/// AWS applies the macros of a nested template. Once MiniStack does, a system can have a file of its own, and the decision in
/// `shared/DECISIONS.md`, "Deployment", has lost its reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_nested_template_with_a_function_is_not_made_here() {
    const PARENT: &str = "
Resources:
  System: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: nested.yaml}}";
    const NESTED: &str = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Function:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: PaymentFailedFunction, Handler: bootstrap, Runtime: provided.al2023}";

    let Some(built) = sam::built() else { return };
    let account = sam::account("nested").await;
    let parent = built.join("parent.yaml");
    fs::write(&parent, PARENT).expect("the target directory is writable");
    fs::write(built.join("nested.yaml"), NESTED).expect("the target directory is writable");
    sam::deploy_in_vain(&account.url, "nested-test", &parent);
    let form = "Action=DescribeStackEvents&Version=2010-05-15&StackName=nested-test";
    let events = account.query("cloudformation", form).await;
    assert!(events.contains("Unsupported resource type: AWS::Serverless::Function"), "{events}");
}

/// The old template with what `sam build` made of today's.
fn with_built_functions(template: &str) -> String {
    let built = template.replace(".template/dashboard.yaml", "Dashboard/template.yaml");
    QUEUED.iter().fold(built, |template, name| {
        let id: String = name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        template.replace(&format!("CodeUri: functions/{name}"), &format!("CodeUri: {id}Function"))
    })
}

pub(crate) async fn resources(account: &MiniStack) -> Resources {
    let form = format!("Action=DescribeStackResources&Version=2010-05-15&StackName={STACK}");
    let answer = account.query("cloudformation", &form).await;
    let field = |member: &str, name: &str| {
        let (_, rest) = member.split_once(&format!("<{name}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    let resource = |member: &str| {
        (field(member, "LogicalResourceId"), (field(member, "ResourceType"), field(member, "PhysicalResourceId")))
    };
    answer.split("<member>").skip(1).map(resource).collect()
}

/// What was there before and is not any more, or is another one under the same name. A version is no loss: its logical id has
/// the hash of what it runs, and SAM leaves the one before in the account.
fn lost(before: &Resources, after: &Resources) -> Vec<String> {
    let kept = before.iter().filter(|(_, (kind, _))| kind != "AWS::Lambda::Version");
    let lost = kept.filter(|(id, resource)| after.get(*id) != Some(resource));
    lost.map(|(id, resource)| format!("{id} was {resource:?} and is {:?}", after.get(id))).collect()
}

/// Lets Lambda read the function's queue, or stops it.
async fn work_the_queue(account: &MiniStack, enabled: bool) {
    let mappings = account.get("lambda", "/2015-03-31/event-source-mappings/").await;
    let mappings: Value = serde_json::from_str(&mappings).unwrap();
    let is_ours = |mapping: &&Value| mapping["EventSourceArn"].as_str().is_some_and(|arn| arn.ends_with(FUNCTION));
    let mapping = mappings["EventSourceMappings"].as_array().into_iter().flatten().find(is_ours).unwrap();
    let path = format!("/2015-03-31/event-source-mappings/{}", mapping["UUID"].as_str().unwrap());
    account.try_rest("lambda", "PUT", &path, &json!({"Enabled": enabled})).await.unwrap();
}

#[test]
fn a_resource_that_is_renamed_removed_or_made_anew_is_lost_and_a_version_is_not() {
    let stack = |resources: &[(&str, &str, &str)]| -> Resources {
        let resource = |(id, kind, physical): &(&str, &str, &str)| {
            ((*id).to_owned(), ((*kind).to_owned(), (*physical).to_owned()))
        };
        resources.iter().map(resource).collect()
    };
    let before = stack(&[("Queue", "AWS::SQS::Queue", "q"), ("V1", "AWS::Lambda::Version", "1")]);
    assert_eq!(lost(&before, &before), Vec::<String>::new());
    assert_eq!(
        lost(&before, &stack(&[("Queue", "AWS::SQS::Queue", "q"), ("V2", "AWS::Lambda::Version", "2")])).len(),
        0
    );
    assert_eq!(lost(&before, &stack(&[("Waiting", "AWS::SQS::Queue", "q")])).len(), 1);
    assert_eq!(lost(&before, &stack(&[("Queue", "AWS::SQS::Queue", "q2")])).len(), 1);
}
