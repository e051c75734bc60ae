//! The Rust client against a running node: keys, siblings, batches, pages and the three outcomes.
//!
//! `peerage dev` in one terminal, `cargo run --example client` in another; other addresses follow
//! as arguments.

use std::time::Duration;

use peerage::client::{Call, Client, Context, Error, Level};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut nodes: Vec<String> = std::env::args().skip(1).collect();
    if nodes.is_empty() {
        nodes = vec!["127.0.0.1:6379".into(), "127.0.0.1:6380".into()];
    }
    // Any of them will do; the next one is asked where one does not answer.
    let mut client = Client::new(nodes).with_timeout(Duration::from_millis(500));

    client.set("name", "Ada").level(Level::All).await?;
    let name = client.get("name").await?.unwrap_or_default();
    println!("name: {}", String::from_utf8_lossy(&name));

    // Two writers that have not seen each other: both values stay, and one write joins them.
    let nothing = Context::nothing_seen();
    client.delete("cart").await?;
    client.set("cart", "milk").after(&nothing).await?;
    client.set("cart", "bread").after(&nothing).await?;
    let seen = client.siblings("cart").await?;
    println!("cart: {} values side by side", seen.values.len());
    let joined = seen.values.join(&b", "[..]);
    client.set("cart", joined).after(&seen.context).await?;
    println!("cart: {} value now", client.siblings("cart").await?.values.len());

    // All or nothing: keys with one {tag} lie together.
    let count = client.bulk_set(&[("{ada}born", "1815"), ("{ada}died", "1852")]).await?;
    println!("{count} keys written at once");

    // A hundred writes for the price of one wait.
    let calls: Vec<Call> = (0..100).map(|n| Call::set(format!("n:{n}").as_bytes(), b"x")).collect();
    let outcomes = client.pipeline(&calls).await;
    println!("{} of 100 acknowledged", outcomes.iter().filter(|outcome| outcome.is_ok()).count());

    let mut found = 0;
    let mut walk = client.scan().prefix("n:");
    while let Some(_record) = walk.next().await? {
        found += 1;
    }
    println!("{found} keys begin with n:");

    match client.delete("name").await {
        Ok(deleted) => println!("name was there: {}", deleted.existed),
        Err(Error::Refused(refused)) => println!("name is as it was: {refused}"),
        Err(Error::Unknown(unknown)) => println!("read name to see: {unknown}"),
    }
    Ok(())
}
