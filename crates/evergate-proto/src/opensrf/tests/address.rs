use super::super::address::*;

#[test]
fn addresses_are_spelled_as_opensrf_spells_them() {
    assert_eq!(router_address("router", "public.localhost"), "opensrf:router:router:public.localhost");
    assert_eq!(service_address("opensrf.math"), "opensrf:service:_:_:opensrf.math");
    let address = client_address("gateway", "public.localhost", "h:1", 42, [0xAB; 16]);
    assert_eq!(address, format!("opensrf:client:gateway:public.localhost:h_1:42:{}", "ab".repeat(16)));
    assert_eq!(domain_of(&address), Some("public.localhost"));
}

#[test]
fn a_worker_and_a_router_are_told_apart() {
    assert_eq!(domain_of("opensrf:client:opensrf:private.localhost:vm:22678:dbb01522"), Some("private.localhost"));
    assert_eq!(domain_of("opensrf:router:router:d"), None);
    assert_eq!(domain_of("opensrf:client:user"), None);
    assert_eq!(domain_of("opensrf:client:user::h:1:r"), None);
    assert!(is_router("opensrf:client:router:public.localhost:vm:22501:3be27511"));
    assert!(!is_router("opensrf:client:routers:d:h:1:r") && !is_router("opensrf:client:opensrf:router:h:1:r"));
}

#[test]
fn a_bus_thread_comes_back_with_the_clients_thread_whatever_is_in_it() {
    let bus_thread = BusThread { slot: 7, generation: u32::MAX, n: u64::MAX };
    for thread in ["", "t", "a:b.c:", "1.2.3:x", "é\n"] {
        let mut written = String::new();
        bus_thread.write(thread, &mut written);
        assert_eq!(BusThread::parse(&written), Some((bus_thread, thread)));
    }
}

#[test]
fn a_bus_thread_that_is_not_ours_is_none() {
    for text in [
        "",
        "t",
        ":",
        "1.2.3",
        "1.2:t",
        "1.2.3.4:t",
        "+1.2.3:t",
        "01.2.3:t",
        "1..3:t",
        "4294967296.0.0:t",
        "1.2.-3:t",
        " 1.2.3:t",
        "1.2.18446744073709551616:t",
        "1.2.3 :t",
    ] {
        assert_eq!(BusThread::parse(text), None, "{text}");
    }
}
